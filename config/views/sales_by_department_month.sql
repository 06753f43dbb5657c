-- Sales by department and month, materialised.
-- materialized: month, department
select
    date_trunc('month', date)::date as month,
    department,
    sum(lines)::bigint as lines,
    sum(units)::bigint as units,
    sum(sales)::numeric(14, 2) as sales
from marts.mart_daily_department
group by date_trunc('month', date), department
