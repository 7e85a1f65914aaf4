"""What `kubectl kustomize` printed, as JSON, held against the schemas of Kubernetes versions.

stdin: JSON, a list of {"yaml": text, "versions": ["1.34", ...]}. stdout: JSON, a list of {"objects": [...], "faults": [...]}.
Strict: a field that a version does not know is a fault.
"""

import functools
import json
import sys

import yaml


@functools.cache
def schemas():
    """The schemas, each read once. Who only wants objects does not wait for them."""
    from kubernetes_validate import utils

    # Unchanged, they are read anew for each object: most of the time of a test that looks at many.
    for name in ("all_versions", "schema_contents"):
        setattr(utils, name, functools.cache(getattr(utils, name)))
    return utils


@functools.cache
def fault(text, version):
    """What `version` has against the object that `text` is. Most sets have most objects in common."""
    one, known = json.loads(text), schemas()
    try:
        known.validate(one, version, strict=True)
    except (known.ValidationError, known.SchemaNotFoundError) as error:
        where = "/".join(str(part) for part in getattr(error, "path", []))
        return f"{version}: {one.get('kind')} {where}: {getattr(error, 'message', error)}"
    return None


def look(given):
    objects = [one for one in yaml.load_all(given["yaml"], Loader=LOADER) if one]
    faults = [fault(json.dumps(one), version) for one in objects for version in given["versions"]]
    return {"objects": objects, "faults": [one for one in faults if one]}


# The same language, ten times as fast, where PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
json.dump([look(given) for given in json.load(sys.stdin)], sys.stdout)
