{{ config(materialized='ephemeral', contract={'enforced': false}) }}

select
    date_key,
    region,
    sky,
    humidity,
    wind_speed,
    observed_at at time zone 'UTC' as observed_hour,
    (kelvin - 273.15)::numeric(4, 1) as celsius
from {{ source('weather', 'fact_weather') }}
