"""Starting the workers of a job, on this machine or on many, and ending all of them when one dies."""
from .run import Job, launch, read_hosts

__all__ = ['Job', 'launch', 'read_hosts']
