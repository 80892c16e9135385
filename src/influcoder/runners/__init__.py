"""Runs the shards of a long job: in this process, in worker processes, on several machines, on a Ray cluster.

The shard is the unit of work: it depends only on its own rows and is written whole or not at all. So a job can be
divided anywhere, and the bytes of a shard do not depend on who makes it. These modules do not know what a shard
computes.

    Share        the shards of one of several processes that were started together: --shard I/N, torchrun, Slurm
    InProcess    one shard after the other, in this process
    Processes    worker processes on this machine
    RayActors    actors of a Ray cluster (`pip install influcoder[ray]`)
"""
