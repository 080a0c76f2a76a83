"""The commands `init` and `flows`: from the chatflows of a Flowise to the files of a gateway."""
