"""A configured installation: home folder, connections, lineage, code versions."""
