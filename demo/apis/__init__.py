"""Local servers that behave like two public REST APIs: a bank's transactions, hourly weather."""
