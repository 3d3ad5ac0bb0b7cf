"""The wire contract of Outlast: what travels in Kafka, as frozen values that know no library."""
