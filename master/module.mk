master_MAIN := master/master.c
master_SRC  := master/master.c
master_USES := master lib
master_LIBS :=  $(LIB_LIBS)
PROGRAMS += libexec/postern/master
