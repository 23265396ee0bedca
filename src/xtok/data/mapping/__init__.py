"""From the features of a data set to the channels of a layout: by names, the registry, a mapping file or a proposal."""
