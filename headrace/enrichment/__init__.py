"""Values of enrichments: what files and packages have for the keys of rows."""
