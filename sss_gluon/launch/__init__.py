"""Starts the workers of a job, on this host or on many, and ends all of them when one dies."""
from .run import Job, launch, read_hosts

__all__ = ['Job', 'launch', 'read_hosts']
