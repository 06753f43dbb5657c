"""Readers of delimited text and of text of fixed width."""
