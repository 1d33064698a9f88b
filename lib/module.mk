# lib: what several processes share. Libraries that a program does not need fall away by --as-needed.
lib_MAIN :=
LIB_LIBS := -levent -lconfuse -ljansson -lseccomp -lidn2
