"""The pipeline's stages, one module each.

`run(config, log)` reads files, writes files and returns a summary; the caller calls the
summary's `cleanup` once the run is on record. `command(args)` is the word on the command line, and
`arguments(parser)`, where there is one, adds its options.
"""
