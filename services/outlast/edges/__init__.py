"""Everything that touches the world: Kafka, providers, settings, clocks, logs."""
