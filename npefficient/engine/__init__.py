"""The inference engine: it packs folded weights, plans each input size, and runs plans in compiled threads."""
