"""Who does the shards of a long job: this process, processes beside it, several machines, a Ray cluster.

The shard is the unit of work: it depends on nothing but its own rows and is written whole or not at all. So a job
can be cut anywhere, and whoever does a shard, its bytes are the same. What a shard computes is no business of
these modules.

    Share        the part of the shards that one of several started processes makes: --shard I/N, torchrun, Slurm
    InProcess    one shard after the other, here
    Processes    worker processes on this machine
    RayActors    actors of a Ray cluster (`pip install influcoder[ray]`)
"""
