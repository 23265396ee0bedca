"""One module a format: folders as their formats have them become a `Source`, its features as they are."""
