{#
    The rows of a model that a build replaces, declared in the model's `meta`:

        meta={'window': {'column': 'date'}}                       the days of the build
        meta={'window': {'column': 'month', 'grain': 'month'}}    all months of these days
        no `window`                                               the whole table

    column: a date column of the model, such as the day, the Monday of a week, the first of a month.
    grain: day (default), week (ISO, from Monday), month, quarter or year. `whole_months: true` is
    an older spelling of `grain: month`.

    Returns the column and the grain, or none.
#}
{% macro model_window(node=none) %}
    {% if not execute %}
        {{ return(none) }}
    {% endif %}
    {% set node = node or (graph.nodes.get(model.get('attached_node')) if model.resource_type == 'test' else model) %}
    {% set window = (node.config.get('meta') or {}).get('window') if node else none %}
    {{ return(checked_window(window, node.name) if window is not none else none) }}
{% endmacro %}


{# A declared window, with its default grain; fails on an unknown key or grain. #}
{% macro checked_window(window, name) %}
    {% set grains = ['day', 'week', 'month', 'quarter', 'year'] %}
    {% set form = "meta={'window': {'column': 'month', 'grain': 'month'}}" %}
    {% if window is not mapping or window.get('column') is not string %}
        {% do exceptions.raise_compiler_error(name ~ ": meta.window names no column; write " ~ form) %}
    {% endif %}
    {% set unknown = window.keys() | reject('in', ['column', 'grain', 'whole_months']) | sort %}
    {% if unknown %}
        {% do exceptions.raise_compiler_error(name ~ ": meta.window: unknown key '" ~ unknown | join("', '") ~ "'; there are column and grain: " ~ form) %}
    {% endif %}
    {% set grain = window.get('grain') or ('month' if window.get('whole_months') else 'day') %}
    {% if grain not in grains %}
        {% do exceptions.raise_compiler_error(name ~ ": meta.window: grain '" ~ grain ~ "' is not one of " ~ grains | join(', ')) %}
    {% endif %}
    {{ return({'column': window['column'], 'grain': grain}) }}
{% endmacro %}


{#
    The window of a test, which is its model's.

    given: The test's own `window`; if given, it must equal the model's.
#}
{% macro tested_window(given=none) %}
    {% set window = model_window() %}
    {% if execute and given is not none and checked_window(given, model.name) != window %}
        {% do exceptions.raise_compiler_error(model.name ~ ": its window is not the model's meta.window (" ~ window ~ "); leave it out") %}
    {% endif %}
    {{ return(window) }}
{% endmacro %}


{#
    The days of a build, ascending, from the variables `days` (a list of ISO dates) or `start` and
    `end` (exclusive). None without variables: all history. The dates are parsed, so that a variable
    cannot inject SQL.

    grain: extends the days to all days of their weeks, months, quarters or years.
#}
{% macro window_days(grain='day') %}
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
    {% if grain != 'day' %}
        {% set units = {} %}
        {% for day in days %}
            {% do units.update({unit_start(day, grain): true}) %}
        {% endfor %}
        {% set days = [] %}
        {% for first in units %}
            {# A date in the next unit: the number of days of the longest unit later. #}
            {% set longest = {'week': 7, 'month': 31, 'quarter': 92, 'year': 366}[grain] %}
            {% set after = unit_start(first + modules.datetime.timedelta(days=longest), grain) %}
            {% do days.extend(days_between(first, after)) %}
        {% endfor %}
    {% endif %}
    {{ return(days | unique | sort) }}
{% endmacro %}


{# The first day of a day's week, month, quarter or year. #}
{% macro unit_start(day, grain) %}
    {% if grain == 'week' %}
        {{ return(day - modules.datetime.timedelta(days=day.weekday())) }}
    {% elif grain == 'month' %}
        {{ return(day.replace(day=1)) }}
    {% elif grain == 'quarter' %}
        {{ return(day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)) }}
    {% elif grain == 'year' %}
        {{ return(day.replace(month=1, day=1)) }}
    {% endif %}
    {{ return(day) }}
{% endmacro %}


{# The days from `start` to `end` (exclusive). #}
{% macro days_between(start, end) %}
    {% set days = [] %}
    {% for ordinal in range(start.toordinal(), end.toordinal()) %}
        {% do days.append(start.fromordinal(ordinal)) %}
    {% endfor %}
    {{ return(days) }}
{% endmacro %}


{#
    Condition: the column lies in the build's window; `true` for all history.

    column: SQL expression of a date, or of a date_key (yyyymmdd, an int) with is_key=true.
    grain: grain of the window; by default that of the model's `meta.window`.
    whole_months: an older spelling of grain='month'.
#}
{% macro in_window(column, is_key=false, whole_months=false, grain=none) %}
    {%- set grain = grain or ('month' if whole_months else (model_window() or {}).get('grain', 'day')) -%}
    {%- set days = none if is_tested_whole() else window_days(grain) -%}
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


{# `in_window` for models: `true` if the build creates the table, which then has all history. #}
{% macro in_build(column, is_key=false, whole_months=false, grain=none) %}
    {{- in_window(column, is_key, whole_months, grain) if is_incremental() else 'true' -}}
{% endmacro %}


{#
    Query: the months of the build, with the first and last date_key of each in the build.

    Models aggregate by month (`from months cross join lateral (...)`): the sales of a month are
    sorted or hashed within work_mem, so that memory does not grow with the window. A year takes
    half the time of one sort over all sales (1.0 s instead of 1.9 s, products by month).
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
    `materialized` or `not materialized`, for a CTE with all members of a dimension. For a long
    window the CTE is hashed once; for a short one, index lookups for each sale are faster.
#}
{% macro cte_materialization() %}
    {%- set grain = (model_window() or {}).get('grain', 'day') -%}
    {%- set days = window_days(grain) if is_incremental() else none -%}
    {{- 'materialized' if days is none or days | length > 7 else 'not materialized' -}}
{% endmacro %}
