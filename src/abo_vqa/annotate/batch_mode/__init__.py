"""The vendor's batch mode: half the price, replies within a day."""
