"""Delimited files in a landing zone: listing, decoding, parsing."""
