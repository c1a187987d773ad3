module tidehub.test/pause

go 1.24
