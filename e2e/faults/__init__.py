"""Faults between the operator and a real API server: a proxy that injects them, by a plan that a seed draws."""
