# man: manual pages in mdoc, one per program and one for the configuration.
MAN_PAGES := $(wildcard man/*.[1578])

# groff's own complaints about a page are mistakes.
.PHONY: man-check
man-check:
	$(Q)set -e; for page in $$(grep -L '^\.so ' $(MAN_PAGES)); do \
		out=$$(groff -mdoc -Tutf8 -ww -z $$page 2>&1); test -z "$$out" || { echo "$$out"; exit 1; }; done
