# conf: what `make install` puts where, beside the programs. DESTDIR, PREFIX and SYSCONFDIR say where.
INSTALL      ?= install
SBINDIR      := $(PREFIX)/sbin
LIBEXECDIR   := $(PREFIX)/libexec/postern
LIBDIR       := $(PREFIX)/lib
CONF_FILE    := $(SYSCONFDIR)/postern/postern.conf

# The unit and its like name the places that were chosen here, this time.
.PHONY: FORCE
$(OUT)/conf/%: conf/% FORCE
	$(Q)mkdir -p $(@D) && sed -e 's|@SBINDIR@|$(SBINDIR)|g' -e 's|@CONF@|$(CONF_FILE)|g' $< > $@

# Data that programs find from where they lie: the build tree is laid out as what is installed.
all: $(OUT)/share/postern/replies.conf
$(OUT)/share/postern/%: conf/%
	$(Q)mkdir -p $(@D) && cp $< $@

INSTALLED_TEXTS := $(addprefix $(OUT)/conf/,postern.service postern.sysusers postern.tmpfiles)

.PHONY: install
install: all $(INSTALLED_TEXTS)
	$(Q)$(INSTALL) -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(LIBEXECDIR)
	$(Q)$(INSTALL) -m 755 $(addprefix $(OUT)/,$(filter sbin/%,$(PROGRAMS))) $(DESTDIR)$(SBINDIR)
	$(Q)$(INSTALL) -m 755 $(addprefix $(OUT)/,$(filter libexec/postern/%,$(PROGRAMS))) $(DESTDIR)$(LIBEXECDIR)
	$(Q)$(INSTALL) -D -m 644 $(OUT)/conf/postern.service $(DESTDIR)$(LIBDIR)/systemd/system/postern.service
	$(Q)$(INSTALL) -D -m 644 $(OUT)/conf/postern.sysusers $(DESTDIR)$(LIBDIR)/sysusers.d/postern.conf
	$(Q)$(INSTALL) -D -m 644 $(OUT)/conf/postern.tmpfiles $(DESTDIR)$(LIBDIR)/tmpfiles.d/postern.conf
	$(Q)$(INSTALL) -D -m 644 conf/replies.conf $(DESTDIR)$(PREFIX)/share/postern/replies.conf
	$(Q)set -e; for page in $(MAN_PAGES); do \
		$(INSTALL) -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done
	$(Q)if test -e $(DESTDIR)$(CONF_FILE); then echo "  kept as it is: $(DESTDIR)$(CONF_FILE)"; \
		else $(INSTALL) -D -m 644 conf/postern.conf $(DESTDIR)$(CONF_FILE); fi
