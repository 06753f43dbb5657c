"""The cost of one more day after a history, and after a history ten times as long.

A shop with few products that change often is loaded for both numbers of days; then the next days
are measured. The cost should not depend on the length of the history.
"""
