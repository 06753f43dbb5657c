"""Configuration: YAML in, frozen and checked models out."""
