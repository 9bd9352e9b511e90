"""For ``from optcore cimport ...``. Compile with ``optcore.get_include()`` among the include directories."""

from optcore._c_api cimport (
    BAD_ARGUMENT, FAILED, NOT_FINITE, OK, REFUSED, OpenPlan, Rule, Schedule, Update, apply32, apply64, check, close_plan,
    find_rule, find_schedule, hyper_count, hyper_name, message, open_plan, plan_updates, prepare, rule_at, rule_name,
    schedule_at, schedule_value, state_count, state_name, step_plan,
)
