"""What hospitals and server must agree on: plan, model, wire format, metrics. Imports neither side."""
