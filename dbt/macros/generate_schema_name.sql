{# A model's schema is its `schema` config, not dbt's default "<profile's schema>_<config>". #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
