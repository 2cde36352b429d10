"""Training data: generators, shards and their inspection."""
