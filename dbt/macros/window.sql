{#
    The days of a build, ascending: `days`, a list of ISO dates, or all days from `start` up to,
    not including, `end`. None, when neither is given: all history. The dates are parsed here, so
    that nothing but a date gets from a variable into the SQL.

    whole_months: all days of the months in which these days lie.
#}
{% macro window_days(whole_months=false) %}
    {% set date = modules.datetime.date %}
    {% set days = [] %}
    {% if var('days', none) is not none %}
        {% for day in var('days') %}
            {% do days.append(date.fromisoformat(day | string)) %}
        {% endfor %}
    {% elif var('start', none) is not none and var('end', none) is not none %}
        {% set start = date.fromisoformat(var('start') | string) %}
        {% set end = date.fromisoformat(var('end') | string) %}
        {% do days.extend(days_between(start, end)) %}
    {% else %}
        {{ return(none) }}
    {% endif %}
    {% if whole_months %}
        {% set months = {} %}
        {% for day in days %}
            {% do months.update({day.replace(day=1): true}) %}
        {% endfor %}
        {% set days = [] %}
        {% for month in months %}
            {% set next_month = (month + modules.datetime.timedelta(days=31)).replace(day=1) %}
            {% do days.extend(days_between(month, next_month)) %}
        {% endfor %}
    {% endif %}
    {{ return(days | unique | sort) }}
{% endmacro %}


{# The days from `start` up to, not including, `end`. #}
{% macro days_between(start, end) %}
    {% set days = [] %}
    {% for ordinal in range(start.toordinal(), end.toordinal()) %}
        {% do days.append(start.fromordinal(ordinal)) %}
    {% endfor %}
    {{ return(days) }}
{% endmacro %}


{#
    Condition: the column lies in the window of the build; true if the window is all history.

    column: SQL expression: a date, or a date_key (yyyymmdd, an int) with is_key=true.
    whole_months: the window is made of the months in which its days lie.
#}
{% macro in_window(column, is_key=false, whole_months=false) %}
    {%- set days = window_days(whole_months) -%}
    {%- if days is none -%}
        true
    {%- else -%}
        {%- set texts = [] -%}
        {%- for day in days -%}
            {%- do texts.append(day.strftime('%Y%m%d' if is_key else '%Y-%m-%d')) -%}
        {%- endfor -%}
        {{ column }} = any('{{ "{" ~ texts | join(",") ~ "}" }}'::{{ 'int' if is_key else 'date' }}[])
    {%- endif -%}
{% endmacro %}


{# `in_window` for a model: a table that is built anew takes all history, whatever the window. #}
{% macro in_build(column, is_key=false, whole_months=false) %}
    {{- in_window(column, is_key, whole_months) if is_incremental() else 'true' -}}
{% endmacro %}


{#
    Query: the months of the build, one row each with its first and last date_key in the build.

    Models aggregate month by month (`from months cross join lateral (...)`): a month's sales are
    sorted or hashed within work_mem, so memory does not grow with the window, and the year takes
    half the time of one sort over everything (1.0 s instead of 1.9 s, products by month).
#}
{% macro months_of_build(whole_months=false) %}
    select
        date_trunc('month', date)::date as month,
        min(date_key) as first_key,
        max(date_key) as last_key
    from {{ ref('stg_warehouse__dates') }}
    where {{ in_build('date', whole_months=whole_months) }}
    group by date_trunc('month', date)
{% endmacro %}


{#
    `materialized` or `not materialized`, for a CTE with all members of a dimension: hashed once if
    the window is long; few sales are quicker to look up in its index, one by one.
#}
{% macro set_aside() %}
    {%- set days = window_days() if is_incremental() else none -%}
    {{- 'materialized' if days is none or days | length > 7 else 'not materialized' -}}
{% endmacro %}
