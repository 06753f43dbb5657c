"""Tables of databases: what their connectors share."""
