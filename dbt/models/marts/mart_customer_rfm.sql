{{ config(indexes=[{'columns': ['customer_id'], 'unique': true}]) }}

-- Every build replaces the whole table, because one more day changes all recencies and scores. It
-- reads baskets, not lines.
with customers as (
    select
        customer_id,
        max(date) as last_purchase_date,
        -- Distinct, because the lines of a basket may fall on two days.
        count(distinct basket_id) as frequency,
        sum(sales)::numeric(14, 2) as monetary
    from {{ ref('int_customer_basket') }}
    -- Without the unknown customer.
    where customer_id <> -1
    group by customer_id
),

as_of as (
    select max(date) + 1 as date
    from {{ ref('int_customer_basket') }}
),

recencies as (
    select
        customers.customer_id,
        customers.last_purchase_date,
        as_of.date - customers.last_purchase_date as recency_days,
        customers.frequency,
        customers.monetary
    from customers
    cross join as_of
)

select
    customer_id,
    last_purchase_date,
    recency_days,
    frequency,
    monetary,
    ntile(5) over (order by recency_days desc, customer_id asc) as r_score,
    ntile(5) over (order by frequency asc, customer_id asc) as f_score,
    ntile(5) over (order by monetary asc, customer_id asc) as m_score
from recencies
