"""The client library: what a program needs to call the service of a cluster."""
