"""The control plane: gRPC with mutual TLS, on which gates tell how they are and hear what the coordinator wants."""
