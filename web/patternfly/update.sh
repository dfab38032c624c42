#!/bin/bash
# Fetch the pinned PatternFly from npm, and copy the style sheets that the page uses, unchanged,
# into web/cockpit/patternfly, and their sources (SCSS) into web/patternfly/scss. Run it to change
# the version; the copies are in the tree because a distribution builds without a network.
set -euo pipefail
VERSION=6.6.1
SHA512=8P9C1TmFk5y5s2/1XVjmP9JmSyDXDiNBwPZewhPizULtqlaRu+Evljx/X1HTSFrCNY0qgI1uDKy+NXiorIniyA==
COMPONENTS=(Alert/alert Button/button Card/card FormControl/form-control Label/label Table/table
  Tabs/tabs Title/title)

here=$(cd "$(dirname "$0")" && pwd)
out=$here/../cockpit/patternfly
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "@patternfly/patternfly@$VERSION" >/dev/null
found=$(openssl dgst -sha512 -binary ./*.tgz | base64 -w 0)
[ "$found" = "$SHA512" ] || { echo "$0: the package has another sum: $found" >&2; exit 1; }
tar xzf ./*.tgz
cp package/base/patternfly-variables.css "$out/variables.css"
rm -rf "$here/scss"
mkdir -p "$here/scss/base" "$here/scss/components"
cp -r package/base/tokens "$here/scss/base/"
cp -r package/sass-utilities "$here/scss/"
cp package/base/*.scss "$here/scss/base/"
for component in "${COMPONENTS[@]}"; do
  cp "package/components/$component.css" "$out/"
  mkdir -p "$here/scss/components/${component%/*}"
  cp "package/components/$component.scss" "$here/scss/components/${component%/*}/"
done
find "$here/scss" -type f ! -name '*.scss' -delete
