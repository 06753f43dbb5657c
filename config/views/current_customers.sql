-- Current version of each customer.
select
    customer_id,
    age,
    income,
    home_ownership,
    marital_status,
    household_size,
    household_comp,
    kids_count,
    valid_from as known_since
from warehouse.dim_customer
where is_current and customer_key <> -1
