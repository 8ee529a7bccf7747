"""Where a stage's work runs: in this process, or dealt to the workers of a Ray cluster.

A stage gives *work*: what a worker makes once (a loaded model, an open archive) and then applies to
batches; and says what a worker needs. Batches are formed before they are dealt, so neither the
engine nor the number of workers changes which rows are computed together, and with it a result.
Whatever is to survive (journals, tables, money) is the caller's, who is alone: workers return
results and write nothing.

    def make() -> Work[list[str], int]:
        archive = open_archive(raw)
        return lambda batches: (sum(map(len, map(archive.read, paths))) for paths in batches)

    with open_engine(config) as engine, engine.workers(make) as workers:
        for position, size in workers.run(batches):
            ...
"""
