"""Does a day in order cost more when history is longer?

A shop with few products that change often, loaded for some days and for ten times as many. Then
the next days, each timed: the columns of the two histories should be the same.
"""
