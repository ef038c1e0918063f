"""Images from the hospital's PACS: pulled by DICOMweb or DICOM query and retrieve, or pushed to us."""
