{# A model's schema is the one it asks for, not dbt's "<profile's schema>_<model's schema>". #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
