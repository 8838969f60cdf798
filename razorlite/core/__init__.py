"""Registry, configuration, errors and journal."""
