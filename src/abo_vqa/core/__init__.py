"""What every package uses: settings, errors, files, devices, tracking, how a stage is run."""
