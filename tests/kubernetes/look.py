"""What `kubectl kustomize` printed, as JSON, held against the schemas of Kubernetes versions.

stdin: JSON, a list of {"yaml": text, "versions": ["1.34", ...]}. stdout: JSON, a list of {"objects": [...], "faults": [...]}.
Strict: a field that a version does not know is a fault.
"""

import json
import sys

import kubernetes_validate
import yaml


def look(given):
    objects = [one for one in yaml.safe_load_all(given["yaml"]) if one]
    faults = []
    for one in objects:
        for version in given["versions"]:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                where = "/".join(str(part) for part in getattr(error, "path", []))
                faults.append(f"{version}: {one.get('kind')} {where}: {getattr(error, 'message', error)}")
    return {"objects": objects, "faults": faults}


json.dump([look(given) for given in json.load(sys.stdin)], sys.stdout)
