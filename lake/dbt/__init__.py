"""Where dbt and Delta meet: the plugin that stores models, and the sources made from `lake.tables`."""
