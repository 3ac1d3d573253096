"""The nodes' help pages, by language: written here, completed with what the schemas and the methods say."""

from ..package import as_package

as_package()
