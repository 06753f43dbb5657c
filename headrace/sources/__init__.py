"""Sources: the connector contract, and one package for each kind of source."""
