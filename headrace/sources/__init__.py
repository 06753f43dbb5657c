"""What data comes from: the connector contract and one package a kind of source."""
