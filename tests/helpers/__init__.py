"""What tests share: tiny models and corpora, slow and plain references, and work done in other processes."""
