"""Kafka: the feed that moves every stage, the way out, the tables, the topics."""
