"""What a scheduler starts: `nightly`, `rebuild_embeddings`, `generate_recommendations`; each returns an exit code."""
