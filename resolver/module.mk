resolver_MAIN := resolver/resolver.c
resolver_SRC  := resolver/resolver.c
resolver_USES := resolver lib
resolver_LIBS := -lunbound $(LIB_LIBS)
PROGRAMS += libexec/postern/resolver
