from optcore._rules import RULES as RULES
